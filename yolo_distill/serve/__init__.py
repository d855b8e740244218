"""`serve`: an exported detector in the browser, on this machine or on a phone; never torch."""
