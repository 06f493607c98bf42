"""HTTP in front of the pipeline: upstream's protocol, our own API and a page for people. Extra `serve`."""
