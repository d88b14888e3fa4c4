#!/bin/sh
# Makes the target's certificate and the passwords. What is there stays.
set -eu
umask 077

if [ ! -e /target/server.pem ]; then
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=target \
		-addext subjectAltName=DNS:target -addext basicConstraints=critical,CA:true \
		-keyout /target/server.key -out /target/server.pem.new
	mv /target/server.pem.new /target/server.pem
fi
for name in postgres gateway; do
	if [ ! -s "/target/$name.password" ]; then
		head -c 24 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n' >"/target/$name.password.new"
		mv "/target/$name.password.new" "/target/$name.password"
	fi
done
cp /target/gateway.password /gateway/orders.password
cp /target/server.pem /gateway/target-ca.pem
chown -R 999:999 /target       # postgres
chown -R 65532:65532 /gateway  # custos
