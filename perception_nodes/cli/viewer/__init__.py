"""
The inside of ``perception view``.

matching.py decides which picture is shown with which results, picture.py draws it, watcher.py
knows the graph, server.py the browsers; ../view_page holds what the browser runs.
"""
