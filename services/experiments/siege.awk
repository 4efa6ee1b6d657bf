# What siege says at its end, as one line: requests, availability in %, refused or failed, longest answer in s.
#
# It says it as JSON (`"failed_transactions": 179,`) or, asked otherwise or being older, as a table
# (`Failed transactions:  179`), among progress, requests and colours. Exit code 1 if it said nothing of the kind.

{
    gsub(/\033\[[0-9;]*m|[",{}]/, "")
    at = index($0, ":")
    if (at == 0) next
    key = tolower(substr($0, 1, at - 1))
    gsub(/[ \t_]/, "", key)
    value = substr($0, at + 1)
    sub(/^[ \t]+/, "", value)
    sub(/[ \t].*/, "", value)
    if (value ~ /^[0-9]+(\.[0-9]*)?$/) said[key] = value
}

END {
    if (!("transactions" in said) || !("failedtransactions" in said)) exit 1
    # "transactions" are those that succeeded; siege's own availability is rounded, and of nothing it is 0 or 100.
    requests = said["transactions"] + said["failedtransactions"]
    availability = requests > 0 ? 100 * said["transactions"] / requests : 0
    printf "%d %.2f %d %.2f\n", requests, availability, said["failedtransactions"], said["longesttransaction"]
}
