"""Build ROS 2 message packages with the rosidl wheels, gcc and g++ alone."""
