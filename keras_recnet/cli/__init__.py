"""What the commands of `keras-recnet` are made of, and the longer ones of them."""
