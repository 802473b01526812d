"""The only doors between ROS messages and arrays: decode.py inwards, encode.py outwards."""
