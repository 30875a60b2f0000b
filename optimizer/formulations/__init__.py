"""One constraint family a file. `add` writes the algebra, `numbers` feeds it."""
