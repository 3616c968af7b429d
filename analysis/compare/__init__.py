"""Our fits and runs beside published laws, and beside each other."""
