"""Looking at what is there: two results side by side, where a number came from, what this machine lacks."""
