"""The door: a process of its own before the server, that takes nothing in which could end, wedge or bloat it.

Server 2.51 believes what an HTTP request says of its shapes: it allocates them, and some end it. So its HTTP listens
on a socket file that only its owner reaches, and the door on the port: it reads each request within limits, writes
what it understood anew, and hands back the server's answer as it came.
"""
