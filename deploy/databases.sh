#!/bin/sh
# Run once by the postgres image: a database and a role for each service, their passwords from .env's URLs.
set -eu
for name in dagster mlflow mlflow_auth; do
  psql --username postgres --set ON_ERROR_STOP=1 --command "CREATE ROLE $name LOGIN" \
    --command "CREATE DATABASE $name OWNER $name"
done
echo "Set the passwords: docker compose exec -it postgres psql -U postgres -c '\\password dagster', and so on."
