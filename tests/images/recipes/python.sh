apt-get install -y --no-install-recommends python3 python3-pip python3-venv ca-certificates
rm -f /usr/lib/python3.11/EXTERNALLY-MANAGED
ln -sf /usr/bin/python3 /usr/local/bin/python
ln -sf /usr/bin/python3 /usr/local/bin/python3
find / -xdev -name __pycache__ -prune -exec rm -rf '{}' +
