"""What a server needs at run time: versions, the model repository, engines, the user cache."""
