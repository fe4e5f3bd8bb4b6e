#!/bin/sh
# Beam starts a worker's image with flags alone; everything else is a command.
case "$1" in
  --*) exec /opt/apache/beam/boot "$@" ;;
  *) exec "$@" ;;
esac
