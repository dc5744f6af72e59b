"""The door before the server's HTTP: each request is read within limits, checked, and sent on written anew."""
