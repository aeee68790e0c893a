"""All that knows Redis: key names, connections, Lua scripts, and a method per transition."""
