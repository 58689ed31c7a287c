"""What can be set, where everything lies, which cells there are, and which code made them."""
