"""Reading what sources are made of: records, references to images, tars, options."""
