"""The steps of a corpus build, one file each: plan → download → measure → decide → tokenize → publish."""
