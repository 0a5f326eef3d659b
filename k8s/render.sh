#!/bin/sh
# The jobs of the overlays, from the specs that ship: `make manifests`. A test holds the files to these lines.
set -eu
tutelage render specs/financial-sentiment.yaml --cloud gke -o k8s/overlays/gke-h100-t4/job.yaml
tutelage render specs/financial-sentiment.yaml --cloud eks --runs-dir s3://example-tutelage/runs --data-dir s3://example-tutelage/data -o k8s/overlays/eks/job.yaml
tutelage render specs/quickstart.yaml --set teacher.resources.cpus=2 --set student.resources.cpus=2 --data-dir /mnt/tutelage --hours 4 -o k8s/overlays/local-cpu/job.yaml
