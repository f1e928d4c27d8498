"""From files to Keras objects: only listed classes, and only sizes that the file has."""
