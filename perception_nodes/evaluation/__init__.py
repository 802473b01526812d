"""How good results are, from arrays and from bags: no ROS."""
