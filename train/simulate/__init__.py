"""`train simulate`: the sim bench and training data in RefSpatial's layouts, from seeds."""
