"""Reads a stream through a split with boto3, and meets every error that a consumer must know. The argument is the server's endpoint."""

import json
import sys
import urllib.request

import boto3
from botocore.config import Config

ENDPOINT = sys.argv[1]
ITEMS = 60

settings = dict(
    endpoint_url=ENDPOINT,
    region_name="local-1",
    aws_access_key_id="test",
    aws_secret_access_key="test",
    config=Config(retries={"total_max_attempts": 1}),
)
streams = boto3.client("dynamodbstreams", **settings)
tables = boto3.client("dynamodb", **settings)


def order(command, **body):
    """Says something to the control interface."""
    request = urllib.request.Request(
        f"{ENDPOINT}/_control/{command}", data=json.dumps(body).encode(), method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def write(numbers):
    """Writes one by one and in batches."""
    numbers = list(numbers)
    for n in numbers[::2]:
        tables.put_item(TableName="py-orders", Item={"id": {"S": str(n)}, "n": {"N": str(n)}})
    puts = [{"PutRequest": {"Item": {"id": {"S": str(n)}, "n": {"N": str(n)}}}} for n in numbers[1::2]]
    for at in range(0, len(puts), 25):
        answer = tables.batch_write_item(RequestItems={"py-orders": puts[at : at + 25]})
        assert answer["UnprocessedItems"] == {}, answer


def list_shards(arn):
    """All shards, page by page."""
    shards, after = [], {}
    while True:
        page = streams.describe_stream(StreamArn=arn, Limit=2, **after)["StreamDescription"]
        shards += page["Shards"]
        if "LastEvaluatedShardId" not in page:
            return shards
        after = {"ExclusiveStartShardId": page["LastEvaluatedShardId"]}


def first(arn, shard, **position):
    position = position or {"ShardIteratorType": "TRIM_HORIZON"}
    return streams.get_shard_iterator(StreamArn=arn, ShardId=shard, **position)["ShardIterator"]


def read(arn, shard):
    """The records of a shard, and whether it came to its end."""
    iterator, records = first(arn, shard), []
    while iterator is not None:
        page = streams.get_records(ShardIterator=iterator, Limit=7)
        records += page["Records"]
        iterator = page.get("NextShardIterator")
        if iterator is not None and not page["Records"]:
            return records, False
        order("advance", seconds=1)
    return records, True


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except streams.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        return type(error).__name__
    raise AssertionError(f"{code} was expected")


order("create-table", table="py-orders", keys=["id"])
table = tables.describe_table(TableName="py-orders")["Table"]
arn = table["LatestStreamArn"]
assert [s["StreamArn"] for s in streams.list_streams(TableName="py-orders")["Streams"]] == [arn]

write(range(ITEMS // 3))
(parent,) = [shard["ShardId"] for shard in list_shards(arn)]
children = order("split", stream=arn, shard=parent)["children"]
write(range(ITEMS // 3, ITEMS))
tables.delete_item(TableName="py-orders", Key={"id": {"S": "0"}})

shards = list_shards(arn)
assert sorted(shard["ShardId"] for shard in shards if shard.get("ParentShardId") == parent) == sorted(children)
filtered = streams.describe_stream(StreamArn=arn, ShardFilter={"Type": "CHILD_SHARDS", "ShardId": parent})
assert len(filtered["StreamDescription"]["Shards"]) == 2

# Parents first.
seen, last = [], []
for shard in [parent, *children]:
    records, ended = read(arn, shard)
    assert ended == (shard == parent), f"{shard} ended: {ended}"
    numbers = [int(record["dynamodb"]["SequenceNumber"]) for record in records]
    assert numbers == sorted(numbers) and len(set(numbers)) == len(numbers)
    seen += [record["dynamodb"]["Keys"]["id"]["S"] for record in records]
    last += [record["eventName"] for record in records if record["dynamodb"]["Keys"]["id"]["S"] == "0"]
assert sorted(seen) == sorted([str(n) for n in range(ITEMS)] + ["0"]), seen
assert last == ["INSERT", "REMOVE"], last

iterator = first(arn, children[0])
order("expire-iterators")
assert refused("ExpiredIteratorException", streams.get_records, ShardIterator=iterator) == "ExpiredIteratorException"
iterator = first(arn, parent)
order("trim", stream=arn, shard=parent)
refused("TrimmedDataAccessException", streams.get_records, ShardIterator=iterator)
refused("ResourceNotFoundException", streams.describe_stream, StreamArn=arn[:-1] + "x")
refused("ValidationException", streams.get_records, ShardIterator="garbled")
order("throttle", operation="DescribeStream", seconds=5)
refused("ThrottlingException", streams.describe_stream, StreamArn=arn)
order("fault", operation="GetRecords", kind="error", code="LimitExceededException")
refused("LimitExceededException", streams.get_records, ShardIterator=first(arn, children[0]))

order("disable-stream", table="py-orders")
order("advance", seconds=6)
assert streams.describe_stream(StreamArn=arn)["StreamDescription"]["StreamStatus"] == "DISABLED"
assert all(read(arn, child)[1] for child in children), "a closed shard ends"
print(f"boto3 {boto3.__version__} read {len(seen)} records of {len(shards)} shards")
