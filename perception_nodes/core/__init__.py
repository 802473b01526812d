"""What the suite computes, on numpy arrays alone: no ROS and no torch in this room."""
