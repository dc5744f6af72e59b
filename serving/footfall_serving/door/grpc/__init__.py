"""The door before the server's gRPC: HTTP/2 frames pass as they are, each message is judged before its last one.

A caller's connection has one of its own to the server, so that header tables, flow control, settings and pings stay
between the two. The server cannot act on a message that is not whole; so the frame that makes it whole waits until
the door has read the message.
"""
