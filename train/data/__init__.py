"""Training data on disk: made ready, named, mixed, indexed, looked at.

archives.py     which archives a download holds, parts of one read as one
extract.py      one archive onto the disk, safely and resumably
prepare.py      `train prepare`: all archives of a folder
refspatial.py   one entry of a RefSpatial JSON file, checked
json_index.py   a JSON file of any size read sample by sample
registry.py     names of datasets and where they lie (refspatial.toml)
mixture.py      `a+b*0.3:1000`: which samples an epoch holds, in which order
packing.py      samples about one picture joined, so that it is encoded once
training_set.py samples with their pictures; broken ones skipped, counted, listed
inspection.py   `train inspect`: counts, missing pictures, token lengths
sheet.py        its contact sheet

No torch here, and nothing is read whole that may be large.
"""
