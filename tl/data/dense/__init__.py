"""Images with maps beside them: a folder for the images, and one for each kind of map."""
