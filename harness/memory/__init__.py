"""One probe a file. A probe measures one step and says what it is called."""
