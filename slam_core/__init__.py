"""One run of a speech language model: declared, trained, evaluated, recorded."""
