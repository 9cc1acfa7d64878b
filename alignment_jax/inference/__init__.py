"""What is done with a finished run: embed, search by text, evaluate, analyse."""
