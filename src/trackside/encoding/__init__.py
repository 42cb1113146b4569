"""From the bytes that the training process kept to the file that is delivered: one module a form.

``finished`` is the way in. The training process keeps raw pixels or rows, because that is quick, and the
shipper does here what is slow: compression, a page of HTML.
"""
