"""
The inside of ``perception doctor``.

snapshot.py says what is known of a graph or a bag, checks.py what is wrong with that; both, and
watch.py, machine.py and bag.py, need no ROS. graph.py looks at a running graph.
"""
