"""What tokens are made of: the item table."""
