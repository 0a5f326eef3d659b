"""A spec as a Kubernetes manifest: what KubeRay needs to run it, and nothing but what spec and command line say.

::

    options.py     what the command line may ask for, checked
    names.py       a name that Kubernetes takes, for any spec's name
    relocate.py    the spec as the pods read it: where its data and models lie there, and what must be put there
    groups.py      from the spec's resources to groups of pods, in numbers
    clouds.py      the nodes that have an accelerator, on each cloud
    pods.py        a hardened pod for each of the groups
    lifetime.py    how long the pods may be there
    cost.py        what an hour and the whole costs at most, and what the plan expects
    manifest.py    all of it together: the ConfigMap and the RayJob
    yaml_text.py   plain data as YAML

Everything is plain dictionaries from small functions. Nothing here talks to a cluster or knows Ray's API, and no
value of the environment goes into what is rendered.
"""
