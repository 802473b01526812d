"""ROS 2 perception: detections, masks, grasps and obstacle maps from camera topics."""
