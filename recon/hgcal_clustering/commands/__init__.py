"""The commands of the HGCal task: one file each, thin layers over the functions of the task."""
