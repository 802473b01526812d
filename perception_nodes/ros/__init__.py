"""What needs rclpy: the life of a node, its inputs, parameters and diagnostics."""
