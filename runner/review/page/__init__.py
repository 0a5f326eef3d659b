"""The review page: rows one by one in a browser on this machine, each decision on the disk before the page says so."""
