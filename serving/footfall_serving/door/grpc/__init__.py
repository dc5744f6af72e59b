"""The door before the server's gRPC: it ends the HTTP/2 of callers, and speaks its own with the server.

Server 2.51 at times dies of calls that are cancelled, whose deadline passes or whose connection breaks, and takes
messages of any length. So it never learns of any of that: all callers share one connection to it, it gets a call's
headers and a message together, once the message is whole, judged and its turn has come, no deadline, and no end but
that nothing more is sent. What it answers to a caller who has left is read and dropped.
"""
