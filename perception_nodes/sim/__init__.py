"""
A robot in rooms, at tables, in corridors and on water, with exact ground truth and without ROS.

::

    from perception_nodes.core.types import VelocityCommand
    from perception_nodes.sim.simulator import Simulator, SimulatorParams

    sim = Simulator(SimulatorParams(world='room', noise=True), 7)  # a seed
    sim.step(VelocityCommand(linear_mps=0.3, angular_rps=0.1), duration_s=0.1)
    frame = sim.frame('camera')        # RgbdFrame; sim.depth, sim.rgb and sim.ideal_depth singly
    truth = sim.truth('camera')        # masks, boxes in 2D and 3D, visible fractions
    scan = sim.scan()                  # LaserRanges in frame laser
    pose = sim.map_from_base           # also odom_from_base, map_from_odom, twist, stamp_ns
    hits = sim.take_contacts()         # what the robot ran into since the last call, how hard
    grid = sim.occupancy()             # exact OccupancyMap in map; sim.states() for every thing
    sim.reset(seed=8)                  # another scene of the same world, at time 0

``worlds.make_scene`` alone gives the description of a scene, which needs no physics; MuJoCo (the
extra ``sim`` of this package) comes in through ``engine`` only.
"""
