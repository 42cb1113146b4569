"""Try to make a journal in argv[1], which cannot be written. Print the error's message."""

import json
import os
import sys

from trackside.errors import JournalError
from trackside.journal.directory import create_directory

if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
os.umask(0)
try:
    create_directory(sys.argv[1], "x")
except JournalError as error:
    print(json.dumps(str(error)))
