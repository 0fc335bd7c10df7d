#!/bin/sh
# What CI does at the end of a roll-out: v2 gets a tenth of the traffic, the watchdog is told, its verdict is waited for.
set -eu
python -c '
import urllib.request as web
asked = web.Request("http://127.0.0.1:8200/weights", b"{\"v1\": 90, \"v2\": 10}", {"Content-Type": "application/json"})
web.urlopen(asked, timeout=5)
'
id="compose-$(date +%s)"
deploy-watchdog trigger --url http://127.0.0.1:8811 --id "$id" --service shop --version v2 --previous-version v1 --share 0.1
exec deploy-watchdog wait --url http://127.0.0.1:8811 "$id"
