"""The ways to end that every training process may meet."""

# ruff: noqa: E501 - scripts on one line read better than wrapped ones
from __future__ import annotations

import signal
import sys
from pathlib import Path

from tests.ends import exits
from tests.ends.container import AS_CHILD_OF_PROCESS_1, AS_PROCESS_1, can_make_container
from tests.ends.harness import Case
from tests.ends.kinds import (
    clean,
    ctrl_c,
    failed,
    raising,
    send,
    send_to_group,
    send_to_shipper,
    sigkilled,
    sigterm,
    stop_and_continue,
    then,
)
from tests.ends.memory import can_limit_memory
from trackside.shipper.signals import ignored

START = "run = trackside.start('ends', config=dict(lr=0.1))\nemit(20)\n"
SLEEP = "ready()\ntime.sleep(60)\n"

BASIC = [
    clean("clean return", START, "exit code 0", on_mlflow=True),
    clean("finish()", START + "run.finish()", "finished"),
    clean("with block", "with trackside.start('ends'):\n    emit(20)"),
    clean("sys.exit(0)", START + "sys.exit(0)"),
    raising("uncaught exception", START + "raise ValueError('boom')", on_mlflow=True),
    raising(
        "with block, raising", "with trackside.start('ends'):\n    emit(20)\n    raise ValueError('boom')"
    ),
    failed("sys.exit(1)", START + "sys.exit(1)", 1, "exit code 1"),
    failed("sys.exit('text')", START + "sys.exit('no data')", 1, "no data", stderr="no data"),
    failed("raise SystemExit(3)", START + "raise SystemExit(3)", 3, "exit code 3"),
    ctrl_c("Ctrl-C", START + SLEEP, stderr="KeyboardInterrupt", on_mlflow=True),
    sigterm("SIGTERM, no handler", START + SLEEP, on_mlflow=True),
    sigkilled("SIGKILL right after the last emit", START + SLEEP, on_mlflow=True),
]

# A list, not an Event: set() in a handler waits for ever when the signal came inside wait(), which has its lock.
GRACEFUL = """
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
"""
# In short waits: CPython does not see a signal that comes just as it enters one, until that is over.
STOPPED = "assert any(stop or time.sleep(0.1) for _ in range(600))"
WAIT_FOR_STOP = f"ready()\n{STOPPED}\nemit(5, start=20)\n"
# A lock taken twice: sleep() would return at the signal.
HOLD_THE_GIL = """
import ctypes
lock, library = ctypes.create_string_buffer(64), ctypes.PyDLL(None)
library.pthread_mutex_lock(lock)
ready()
library.pthread_mutex_lock(lock)
"""


EXCEPTIONS = [
    failed(
        "exception in a worker thread",
        START + "t = threading.Thread(target=lambda: 1 / 0)\nt.start()\nt.join()",
        0,
        "ZeroDivisionError in a thread",
        stderr="ZeroDivisionError",
    ),
    raising(
        "exception out of asyncio.run",
        START + "import asyncio\nasync def main():\n    raise ValueError('boom')\nasyncio.run(main())",
    ),
    failed(
        "exception in an asyncio task",
        START
        + "import asyncio\nasync def bad():\n    raise ValueError('boom')\nasync def main():\n    t = asyncio.ensure_future(bad())\n    await asyncio.sleep(0.1)\n    del t\nasyncio.run(main())",
        0,
        "ValueError in an asyncio task",
        stderr="ValueError: boom",
    ),
    failed(
        "exception in torch.multiprocessing.spawn",
        "import torch.multiprocessing as mp\ndef worker(i):\n    raise ValueError('boom')\nif __name__ == '__main__':\n    run = trackside.start('ends')\n    emit(20)\n    mp.spawn(worker, nprocs=2)",
        1,
        "ProcessRaisedException",
        stderr="ValueError: boom",
    ),
    failed(
        "excepthook replaced by the user",
        START + "sys.excepthook = lambda *a: print('mine', file=sys.stderr)\nraise ValueError('boom')",
        1,
        "ValueError: boom",
        stderr="mine",
    ),
    clean("sys.exit(1) caught, then clean", START + "try:\n    sys.exit(1)\nexcept SystemExit:\n    pass"),
    clean(
        "sys.exit from a thread",
        START + "t = threading.Thread(target=sys.exit, args=(1,))\nt.start()\nt.join()",
    ),
    clean(
        "threads still emitting at shutdown",
        START
        + "def go():\n    i = 20\n    while True:\n        emit(1, start=i)\n        i += 1\n        time.sleep(0.001)\nthreading.Thread(target=go, daemon=True).start()\ntime.sleep(0.2)",
        points=None,
    ),
]

TORCHRUN = """
import torch.distributed as dist
dist.init_process_group("gloo")
run = trackside.start("ends")
if dist.get_rank() == 0:
    emit(20)
dist.barrier()
if dist.get_rank() == {rank}:
    {what}
time.sleep({seconds})
"""
TORCHRUN_COMMAND = (
    sys.executable,
    *"-m torch.distributed.run --nproc-per-node 2 --master-port 0 --standalone".split(),
)

RANKS = [
    raising(
        "torchrun: rank 0 raises",
        TORCHRUN.format(rank=0, what="raise ValueError('boom')", seconds=30),
        command=TORCHRUN_COMMAND,
    ),
    failed(
        "torchrun: rank 1 raises",
        TORCHRUN.format(rank=1, what="raise ValueError('boom')", seconds=30),
        1,
        "ValueError on rank 1: boom",
        stderr="ValueError: boom",
        command=TORCHRUN_COMMAND,
    ),
    failed(
        "torchrun: rank 1 calls sys.exit(3)",
        TORCHRUN.format(rank=1, what="sys.exit(3)", seconds=30),
        1,
        "SystemExit on rank 1: exit code 3",
        command=TORCHRUN_COMMAND,
    ),
    failed(
        "torchrun: rank 1, finally: finish(), SystemExit(4)",
        TORCHRUN.format(
            rank=1,
            what="try:\n        raise SystemExit(4)\n    finally:\n        run.finish()",
            seconds=30,
        ),
        1,
        "SystemExit on rank 1: exit code 4",
        command=TORCHRUN_COMMAND,
    ),
    clean(
        "torchrun: clean return",
        TORCHRUN.format(rank=0, what="time.sleep(0)", seconds=0),
        "exit code 0",
        command=TORCHRUN_COMMAND,
    ),
]

SIGNALS = [
    ctrl_c("Ctrl-C to the process group", START + SLEEP, act=send_to_group(signal.SIGINT)),
    ctrl_c(
        "Ctrl-C twice",
        START + "import atexit\ntry:\n    ready()\n    time.sleep(60)\nfinally:\n    time.sleep(5)",
        act=then(send(signal.SIGINT), send(signal.SIGINT)),
    ),
    clean(
        "Ctrl-C caught, clean return",
        START + "try:\n    ready()\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    pass",
        act=send(signal.SIGINT),
    ),
    ctrl_c(
        "Ctrl-C caught, sys.exit(130)",
        START + "try:\n    ready()\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    sys.exit(130)",
        130,
    ),
    sigterm("SIGTERM to the process group", START + SLEEP, act=send_to_group(signal.SIGTERM)),
    sigterm(
        "SIGTERM, user's handler before start, graceful stop", GRACEFUL + START + WAIT_FOR_STOP, 0, points=25
    ),
    sigterm(
        "SIGTERM, user's handler after start, graceful stop", START + GRACEFUL + WAIT_FOR_STOP, 0, points=25
    ),
    sigterm(
        "SIGTERM, handler that exits with 7",
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n" + START + SLEEP,
        7,
    ),
    sigterm(
        "SIGTERM, graceful stop in a with block",
        GRACEFUL + f"with trackside.start('ends'):\n    emit(20)\n    ready()\n    {STOPPED}",
        0,
    ),
    sigterm(
        "SIGTERM while the GIL is held, then SIGKILL",
        START + HOLD_THE_GIL,
        -signal.SIGKILL,
        act=then(send(signal.SIGTERM, after=0.3), send(signal.SIGKILL)),
    ),
    sigterm(
        "SIGTERM in the middle of emitting",
        "run = trackside.start('ends')\nready()\nemit(10_000_000)",
        points=None,
        act=send(signal.SIGTERM, after=0.3),
        on_mlflow=True,
    ),
    ctrl_c(
        "Ctrl-C in the middle of emitting",
        "run = trackside.start('ends')\nready()\nemit(10_000_000)",
        points=None,
        act=send(signal.SIGINT, after=0.3),
    ),
]

# The habit of frameworks: a handler that comes later calls the one it replaced.
CHAINED = """
stop = []
before = signal.getsignal(signal.SIGTERM)
def on_term(number, frame):
    stop.append(True)
    {restore}
    if callable(before):
        before(number, frame)
signal.signal(signal.SIGTERM, on_term)
"""
RESTORING = """
import functools
def on_term(before, number, frame):
    time.sleep(0.1)
    signal.signal(number, before)
    os.kill(os.getpid(), number)
signal.signal(signal.SIGTERM, functools.partial(on_term, signal.getsignal(signal.SIGTERM)))
"""
LOOP = """
import asyncio
async def main():
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    {inside}
    await asyncio.wait_for(stop.wait(), 60)
    emit(5, start=20)
"""

FOREIGN_HANDLERS = [
    sigterm(
        "SIGTERM, later handler that calls the one before, graceful stop",
        START + CHAINED.format(restore="pass") + WAIT_FOR_STOP,
        0,
        points=25,
    ),
    sigterm(
        "SIGTERM, later handler that sets the one before back and calls it",
        START + CHAINED.format(restore="signal.signal(number, before)") + WAIT_FOR_STOP,
        0,
        points=25,
        slow=True,
    ),
    sigterm(
        "SIGTERM, later handler that sets the one before back and sends it again", START + RESTORING + SLEEP
    ),
    sigterm(
        "SIGTERM, loop.add_signal_handler after start, graceful stop",
        START + LOOP.format(inside="ready()") + "asyncio.run(main())",
        0,
        points=25,
    ),
    sigterm(
        "SIGTERM after the loop that handled it has ended",
        START + LOOP.format(inside="stop.set()") + "asyncio.run(main())\n" + SLEEP,
        points=25,
    ),
    sigterm(
        "SIGTERM to a loop's handler while Python is stuck, then SIGKILL",
        START
        + LOOP.format(inside="await asyncio.sleep(0)\n    ready()\n    time.sleep(60)")
        + "asyncio.run(main())",
        -signal.SIGKILL,
        act=then(send(signal.SIGTERM), send(signal.SIGKILL)),
    ),
]

LOADER = """
from torch.utils.data import DataLoader, Dataset
class Numbers(Dataset):
    def __len__(self):
        return 100_000
    def __getitem__(self, i):
        return i
if __name__ == "__main__":
    run = trackside.start("ends")
    loader = iter(DataLoader(Numbers(), batch_size=2, num_workers=2, multiprocessing_context="{method}"))
    next(loader)
    emit(20)
    ready()
    for _ in loader:
        time.sleep(0.01)
"""

FORK = (
    START
    + """
pid = os.fork()
if pid == 0:
    {child}
"""
)

FORKS = [
    clean(
        "forked child raises",
        FORK.format(child="raise ValueError('in the child')") + "os.waitpid(pid, 0)",
        stderr="in the child",
    ),
    clean(
        "forked child exits with 3",
        FORK.format(child="trackside.log({'loss': 7.0}, step=99)\n    sys.exit(3)") + "os.waitpid(pid, 0)",
        "exit code 0",
    ),
    clean(
        "forked child gets SIGTERM",
        FORK.format(child="time.sleep(60)")
        + "time.sleep(0.2)\nos.kill(pid, 15)\nassert os.waitpid(pid, 0)[1] == 15",
    ),
    sigkilled(
        "forked child outlives a SIGKILLed parent",
        FORK.format(child="time.sleep(8)\n    os._exit(0)") + SLEEP,
    ),
    clean(
        "multiprocessing pool, clean return",
        "import multiprocessing as mp\n"
        + START
        + "with mp.get_context('fork').Pool(2) as pool:\n    print(pool.map(abs, [-1, -2]))",
    ),
]

CONTAINERS = [
    clean("process 1: clean return", START, "exit code 0", command=AS_PROCESS_1),
    failed(
        "process 1: raise SystemExit(3)",
        START + "raise SystemExit(3)",
        3,
        "exit code 3",
        command=AS_PROCESS_1,
    ),
    failed(
        "process 1: uncaught exception",
        START + "raise ValueError('boom')",
        1,
        "ValueError: boom",
        command=AS_PROCESS_1,
        slow=True,
    ),
    clean("process 1: finish()", START + "run.finish()", command=AS_PROCESS_1, tidy=False),
    failed(
        "process 1: raise SystemExit(3), forked child still there",
        START + "if os.fork() == 0:\n    time.sleep(60)\nraise SystemExit(3)",
        3,
        "exit code 3",
        command=AS_PROCESS_1,
        slow=True,
    ),
    failed(
        "child of process 1: raise SystemExit(3)",
        START + "raise SystemExit(3)",
        3,
        "exit code 3",
        command=AS_CHILD_OF_PROCESS_1,
        tidy=False,
    ),
]

# A run that is made in a child of multiprocessing; what the parent leaves with is the child's exit code.
CHILD = """
import multiprocessing, torch.multiprocessing
def work(*_):
    run = trackside.start("ends", config=dict(lr=0.1))
    emit(20)
    {end}
if __name__ == "__main__":
    child = multiprocessing.get_context("{method}").Process(target=work)
    child.start()
    child.join()
    sys.exit(child.exitcode)
"""
EXECUTOR = """
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
def work():
    {work}
if __name__ == "__main__":
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        print(pool.submit(work).exception())
"""

CHILDREN = [
    Case(
        f"multiprocessing, {method}: {how}",
        CHILD.format(method=method, end=end).replace(", torch.multiprocessing", ""),
        status,
        code,
        reason=reason,
        stderr=stderr,
        slow="exit" in how or "Exit" in how,
    )
    for method, how, end, status, code, reason, stderr in [
        ("fork", "clean return", "", "FINISHED", 0, "exit code 0", ""),
        ("fork", "raises", "raise ValueError('boom')", "FAILED", 1, "ValueError: boom", "ValueError: boom"),
        ("fork", "sys.exit(3)", "sys.exit(3)", "FAILED", 3, "exit code 3", ""),
        (
            "fork",
            "raise SystemExit('text')",
            "raise SystemExit('no data')",
            "FAILED",
            1,
            "no data",
            "no data",
        ),
        (
            "fork",
            "finally: finish(), raises",
            "try:\n        1 / 0\n    finally:\n        run.finish()",
            "FAILED",
            1,
            "ZeroDivisionError",
            "ZeroDivisionError",
        ),
        ("fork", "os._exit(0)", "os._exit(0)", "FAILED", 0, "died without a word", ""),
        ("spawn", "raises", "raise ValueError('boom')", "FAILED", 1, "ValueError: boom", "ValueError: boom"),
        ("forkserver", "clean return", "", "FINISHED", 0, "exit code 0", ""),
    ]
] + [
    raising(
        "torch.multiprocessing.spawn: the worker with the run raises",
        CHILD.format(method="fork", end="raise ValueError('boom')").partition("    child =")[0]
        + "    torch.multiprocessing.spawn(work, nprocs=1)",
    ),
    failed(
        "ProcessPoolExecutor: a task in a with block raises",
        EXECUTOR.format(
            work="with trackside.start('ends'):\n        emit(20)\n        raise ValueError('boom')"
        ),
        0,
        "ValueError: boom",
        slow=True,
    ),
    clean(
        "ProcessPoolExecutor: a task that leaves its run open, clean",
        EXECUTOR.format(work="trackside.start('ends')\n    emit(20)"),
        "exit code 0",
        slow=True,
    ),
]

# What a C library's fork() is: no Python code learns of it.
C_FORK = """
import ctypes
library = ctypes.CDLL(None)
child = library.fork()
if child == 0:
    library.usleep({wait})
    library.exit(7)
"""
# The shipper must be at work by then: afterwards a program that has ended looks like any other.
EXEC = "while not run._assembly.shipper.is_ready:\n    time.sleep(0.05)\nready()\nos.execv(sys.executable, [sys.executable, '-c', {code!r}])"
AGAIN = """
again = os.environ.get("CASE_AGAIN")
run = trackside.start("ends", checkpoint_dir="checkpoints", wait=True)
if again:
    emit(10, start=20)
    {end}
emit(20)
os.environ["CASE_AGAIN"] = "1"
os.execv(sys.executable, [sys.executable, *sys.argv])
"""

FORKS += [
    clean(
        "a C library's child exits with 7 before the clean end",
        START + C_FORK.format(wait=1) + "os.waitpid(child, 0)",
        "exit code 0",
    ),
    failed(
        "a C library's child exits with 7 before exit code 3",
        START + C_FORK.format(wait=1) + "os.waitpid(child, 0)\nraise SystemExit(3)",
        3,
        "exit code 3",
        slow=True,
    ),
    clean(
        "a C library's child exits with 7 after the clean end",
        START + C_FORK.format(wait=300_000),
        "exit code 0",
    ),
]

EXECS = [
    clean(
        "exec of another program, which ends with 0",
        START + EXEC.format(code="import time; time.sleep(1)"),
        "replaced by another program (exec)",
    ),
    failed(
        "exec of another program, which ends with 3",
        START + EXEC.format(code="import time; time.sleep(1); raise SystemExit(3)"),
        3,
        "replaced by another program (exec)",
        slow=True,
    ),
    clean(
        "exec of another program, with a child that holds the pipe",
        START
        + "if os.fork() == 0:\n    time.sleep(2)\n    os._exit(0)\n"
        + EXEC.format(code="import time; time.sleep(1)"),
        "replaced by another program (exec)",
        slow=True,
    ),
    clean(
        "exec of itself, resumed with the same checkpoints, clean return",
        AGAIN.format(end="sys.exit(0)"),
        "exit code 0",
        points=30,
        attempts=2,
        on_mlflow=True,
    ),
    raising(
        "exec of itself, resumed with the same checkpoints, uncaught exception",
        AGAIN.format(end="raise ValueError('boom')"),
        points=30,
        attempts=2,
        slow=True,
        on_mlflow=True,
    ),
]

ALIVE = [
    clean("SIGSTOP for 5 s, then clean", START + "ready()\ntime.sleep(1)", act=stop_and_continue(5)),
    clean(
        "SIGSTOP for 60 s, then clean", START + "ready()\ntime.sleep(1)", act=stop_and_continue(60), slow=True
    ),
    clean(
        "SIGUSR1, SIGALRM, SIGTSTP and others to the shipper, then clean",
        START
        + "ready()\ntime.sleep(1)\nassert run._assembly.shipper.is_running()\nassert not run._assembly.shipper.restarts",
        act=send_to_shipper(*sorted(ignored())),
    ),
    clean("GIL held for 5 s, then clean", START + "import ctypes\nctypes.PyDLL(None).sleep(5)"),
    clean("GIL held for 60 s, then clean", START + "import ctypes\nctypes.PyDLL(None).sleep(60)", slow=True),
]

IPYTHON = (sys.executable, "-m", "IPython", "--colors=NoColor", "--no-banner")

NOTEBOOKS = [
    failed(
        "IPython: the script raises",
        START + "raise ValueError('boom')",
        1,
        "ValueError: boom",
        command=IPYTHON,
    ),
    failed(
        "IPython: finally: finish()",
        START + "try:\n    raise ValueError('boom')\nfinally:\n    run.finish()\n",
        1,
        "ValueError: boom",
        command=IPYTHON,
    ),
    clean("IPython: clean", START, command=IPYTHON),
]

SILENT = [
    failed("os._exit(0)", START + "os._exit(0)", 0, "died without a word"),
    failed("os._exit(3)", START + "os._exit(3)", 3, "died without a word"),
    failed("abort", START + "os.abort()", -signal.SIGABRT, "died without a word"),
    failed("segfault", START + "import ctypes\nctypes.string_at(0)", -signal.SIGSEGV, "died without a word"),
    *(
        failed(
            f"SIGKILL while emitting, {i}",
            "run = trackside.start('ends')\nready()\nemit(10_000_000)",
            -signal.SIGKILL,
            "died without a word",
            points=None,
            act=send(signal.SIGKILL, after=0.01 + 0.037 * i),
            slow=i > 1,
        )
        for i in range(20)
    ),
    sigkilled("SIGKILL with DataLoader workers (fork)", LOADER.format(method="fork")),
    sigkilled("SIGKILL with DataLoader workers (spawn)", LOADER.format(method="spawn"), slow=True),
]

FINALLY = "try:\n    {what}\nfinally:\n    run.finish()\n"
OUTER = "def train():\n    try:\n        raise ValueError('boom')\n    finally:\n        run.finish()\ntry:\n    train()\n"
HANDLED = "try:\n    raise StopIteration\nexcept StopIteration:\n    run.finish()\n"
SETTLED = (
    "import glob\nwhile glob.glob(os.environ['TRACKSIDE_DIR'] + '/*/meta.json'):\n    time.sleep(0.01)\n"
)

FINISHES = [
    raising(
        "finally: finish(), uncaught exception",
        START + FINALLY.format(what="raise ValueError('boom')"),
        on_mlflow=True,
    ),
    failed(
        "finally: finish(), exception in a thread",
        START
        + "def work():\n    try:\n        1 / 0\n    finally:\n        run.finish()\n"
        + "t = threading.Thread(target=work)\nt.start()\nt.join()",
        0,
        "ZeroDivisionError in a thread",
        stderr="ZeroDivisionError",
    ),
    raising(
        "finally: finish(), exception out of asyncio.run",
        START
        + "import asyncio\nasync def main():\n    try:\n        raise ValueError('boom')\n    finally:\n        run.finish()\nasyncio.run(main())",
    ),
    ctrl_c(
        "finally: finish(), Ctrl-C",
        START + FINALLY.format(what="ready(); time.sleep(60)"),
        stderr="KeyboardInterrupt",
    ),
    failed(
        "finally: finish(), raise SystemExit(3)",
        START + FINALLY.format(what="raise SystemExit(3)"),
        3,
        "exit code 3",
    ),
    clean("finally: finish(), sys.exit(0)", START + FINALLY.format(what="sys.exit(0)")),
    failed(
        "finally: finish(), the exception becomes another",
        START + OUTER + "except ValueError as error:\n    raise RuntimeError('worse') from error",
        1,
        "RuntimeError: worse",
        stderr="RuntimeError: worse",
    ),
    failed(
        "finally: finish(), the exception becomes sys.exit(1)",
        START + OUTER + "except ValueError:\n    sys.exit(1)",
        1,
        "exit code 1",
    ),
    failed(
        "finally: finish(), the exception becomes SystemExit(2)",
        START + OUTER + "except ValueError:\n    raise SystemExit(2)",
        2,
        "exit code 2",
    ),
    sigkilled(
        "finally: finish(), SIGKILL while the exception is on its way",
        START
        + "try:\n"
        + "    "
        + "try:\n        1 / 0\n    finally:\n        run.finish()\nfinally:\n    ready()\n    time.sleep(60)",
    ),
    clean(
        "finally: finish(), the exception is handled",
        START + OUTER + "except ValueError:\n    pass",
        "finished",
    ),
    clean("except: finish()", START + HANDLED, "finished"),
    Case(
        "except: finish(), then SIGKILL",
        START + HANDLED + SETTLED + SLEEP,
        "FINISHED",
        -signal.SIGKILL,
        act=send(signal.SIGKILL),
        reason="finished",
    ),
    Case(
        "except: finish(), then another exception",
        START + HANDLED + "raise ValueError('later')",
        "FINISHED",
        1,
        reason="finished",
        stderr="ValueError: later",
    ),
    Case(
        "except: finish(), then sys.exit(1)",
        START + HANDLED + "sys.exit(1)",
        "FINISHED",
        1,
        reason="finished",
    ),
    failed(
        "atexit: finish(), sys.exit(1)",
        START + "import atexit\natexit.register(run.finish)\nsys.exit(1)",
        1,
        "exit code 1",
    ),
    failed(
        "atexit: finish(), raise SystemExit(3)",
        START + "import atexit\natexit.register(run.finish)\nraise SystemExit(3)",
        3,
        "exit code 3",
    ),
    raising(
        "atexit: finish(), uncaught exception",
        START + "import atexit\natexit.register(run.finish)\nraise ValueError('boom')",
    ),
    clean(
        "atexit: finish(), clean return", START + "import atexit\natexit.register(run.finish)", "exit code 0"
    ),
]

ENTER_GROUP = """
sys.path.insert(0, os.environ["CASE_ROOT"])
from tests.ends.memory import enter_limited_group
enter_limited_group(900 << 20)
"""
OUT_OF_MEMORY = [
    failed(
        "OOM killer, in a memory cgroup",
        ENTER_GROUP + START + "hog = []\nwhile True:\n    hog.append(b'x' * (10 << 20))",
        -signal.SIGKILL,
        "out of memory",
        environment={"CASE_ROOT": str(Path(__file__).parents[2])},
    ),
]

GROUPS = {
    "clean and raising": BASIC,
    "finish() on the way out": FINISHES,
    **exits.GROUPS,
    "exceptions": EXCEPTIONS,
    "ranks": RANKS,
    "signals": SIGNALS,
    "others' signal handlers": FOREIGN_HANDLERS,
    "without a word": SILENT,
    "forks": FORKS,
    "children of multiprocessing": CHILDREN,
    "exec": EXECS,
    **({"containers": CONTAINERS} if can_make_container() else {}),
    "not a death": ALIVE,
    "notebooks": NOTEBOOKS,
    **({"out of memory": OUT_OF_MEMORY} if can_limit_memory() else {}),
}
ALL = [case for group in GROUPS.values() for case in group]
