#!/usr/bin/env bash
# A command of genrebeam on Dataflow. From a machine with genrebeam[gcp] and credentials:
#
#     PROJECT=p REGION=europe-west4 BUCKET=gs://b IMAGE=REGISTRY/genrebeam-worker:0.1.0 \
#       deploy/dataflow/launch.sh tag gs://b/music --output gs://b/tagged [more options of the command or of Beam]
#
# Likewise `apply gs://b/tagged --yes` and `shards gs://b/music --output gs://b/shards`. With `tag`, GPU=1 asks for one
# NVIDIA T4 for each worker; IMAGE then has to be the -gpu one.
set -euo pipefail
command=${1:?tag, apply or shards}
shift
: "${PROJECT:?}" "${REGION:?}" "${BUCKET:?}" "${IMAGE:?}"

flags=(
  --runner DataflowRunner --project "$PROJECT" --region "$REGION"
  --temp_location "$BUCKET/tmp" --staging_location "$BUCKET/staging"
  # The image has genrebeam, TensorFlow and this very version of Beam: nothing is installed when a worker starts.
  --sdk_container_image "$IMAGE" --sdk_location container
  # Decoding takes all of a core: a process for each, with one thread. 2 GB for each process are ample.
  --machine_type "${MACHINE:-n2-standard-8}" --number_of_worker_harness_threads 1
  --disk_size_gb 50  # objects are copied one at a time for each process; a ten-hour FLAC has 3 GB
)
if [ "${GPU:-0}" = 1 ]; then
  flags=("${flags[@]/n2-standard-8/n1-standard-8}")  # T4s attach to N1 machines only
  flags+=(
    --dataflow_service_options "worker_accelerator=type:nvidia-tesla-t4;count:1;install-nvidia-driver"
    # One process holds the GPU's memory, so there must be one process; its threads then do the decoding.
    --experiments no_use_multiple_sdk_containers --number_of_worker_harness_threads 8
    --batch-size 1024
  )
fi
exec genrebeam "$command" "${flags[@]}" "$@"
