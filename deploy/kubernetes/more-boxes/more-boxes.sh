#!/bin/sh
# Adds a replica to the Deployment of workers that is lacking, up to a most of them, if all that were asked for are there.
set -eu

add() {
    deployment=$1 most=$2
    asked=$(kubectl get deployment "$deployment" -o 'jsonpath={.spec.replicas}')
    ready=$(kubectl get deployment "$deployment" -o 'jsonpath={.status.readyReplicas}')
    if [ "${ready:-0}" -lt "$asked" ]; then
        echo "$deployment: $asked were asked for, and ${ready:-0} are there"
    elif [ "$asked" -ge "$most" ]; then
        echo "$deployment: $asked is the most"
    else
        kubectl scale deployment "$deployment" --current-replicas="$asked" --replicas="$((asked + 1))"
    fi
}

# Standard input says it more exactly: docs/deploying.md.
if [ "$QMODAL_WANTED_GPUS" -gt 0 ]; then
    add qmodal-worker-gpu "$MOST_GPU_WORKERS"
else
    add qmodal-worker "$MOST_WORKERS"
fi
