"""The commands of the tracking task, one file each; options are the arguments of the functions."""
