"""The door: a process of its own before the server, that takes nothing in which could end, wedge or bloat it.

Server 2.51 believes what an HTTP request says of its shapes: it allocates them, and some end it. Over gRPC it divides
by the size of a text, and takes messages of any length. Over both it lets anybody ask the steps of the ensemble. So
it listens on socket files that only its owner reaches, and the door on the ports.
"""
