"""The ensemble's steps as the server's Python backend runs them; importable only inside its stub."""
