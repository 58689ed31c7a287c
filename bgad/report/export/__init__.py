"""What other tools take from a finished run: its figures as one table, and a cell's model as a file with a card."""
