#!/bin/sh
# Makes a self-signed certificate for fun.shop and localhost, and the Secret by which the gateway gets it.
set -eu
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=fun.shop \
    -addext subjectAltName=DNS:fun.shop,DNS:localhost -keyout tls.key -out tls.crt 2>/dev/null
cat >manifests/certificate.yaml <<END
apiVersion: v1
kind: Secret
metadata:
  name: fun-shop
type: kubernetes.io/tls
data:
  tls.crt: $(base64 -w 0 tls.crt)
  tls.key: $(base64 -w 0 tls.key)
END
