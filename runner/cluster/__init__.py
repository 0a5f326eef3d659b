"""Ray: the one folder that knows its API, from connecting to a cluster to jobs that are handed to one."""
