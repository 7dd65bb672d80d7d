"""Recorded output of Slurm 22.05.8 and 25.11.7, for the commands that the portal runs.

Recorded on clusters of their own, with the marks 0x1f and 0x1e. The versions between print the
same as 25.11, by their source.
"""

# ruff: noqa: E501
# fmt: off

SQUEUE_22_05 = [
    '10\x1frun1\x1falice\x1fproj\x1fmain\x1fRUNNING\x1fNone\x1f1\x1fvm\x1f1\x1fcpu=1,mem=1500M,node=1,billing=1,gres/gpu=1,gres/gpu:a100=1\x1f30:00\x1f0:05\x1f29:55\x1f2026-11-23T23:50:07\x1f2026-11-23T23:50:07\x1f2026-11-24T00:20:07\x1f/home/alice\x1f0\x1f4294901750\x1f(null)\x1e\n',
    '11\x1frun2\x1falice\x1fproj\x1flong\x1fRUNNING\x1fNone\x1f1\x1fvm\x1f1\x1fcpu=1,mem=1.50G,node=1,billing=1\x1fUNLIMITED\x1f0:05\x1fUNLIMITED\x1f2026-11-23T23:50:07\x1f2026-11-23T23:50:07\x1fNONE\x1f/home/alice\x1f0\x1f4294901749\x1f(null)\x1e\n',
    '13\x1flonglim\x1falice\x1fproj\x1flong\x1fRUNNING\x1fNone\x1f1\x1fvm\x1f1\x1fcpu=1,mem=512M,node=1,billing=1\x1fINVALID\x1f0:05\x1fINVALID\x1f2026-11-23T23:50:07\x1f2026-11-23T23:50:07\x1f2027-12-28T23:50:07\x1f/home/alice\x1f0\x1f4294901747\x1f(null)\x1e\n',
    '12\x1frun3\x1falice\x1fproj\x1fhid\x1fRUNNING\x1fNone\x1f1\x1fvm\x1f1\x1fcpu=1,mem=3G,node=1,billing=1,gres/shard=2\x1f2-00:00:00\x1f0:45\x1f1-23:59:15\x1f2026-11-23T23:50:07\x1f2026-11-23T23:50:07\x1f2026-11-25T23:50:07\x1f/home/alice\x1f0\x1f4294901748\x1f(null)\x1e\n',
    '3\x1fexit130\x1falice\x1fproj\x1fmain\x1fFAILED\x1fNonZeroExitCode\x1f1\x1fvm\x1f1\x1fcpu=1,mem=512M,node=1,billing=1\x1f5:00\x1f0:00\x1f5:00\x1f2026-11-23T23:50:06\x1f2026-11-23T23:50:06\x1f2026-11-23T23:50:06\x1f/home/alice\x1f33280\x1f4294901757\x1f(null)\x1e\n',
    '4\x1fsig9\x1falice\x1fproj\x1fmain\x1fFAILED\x1fJobLaunchFailure\x1f1\x1fvm\x1f1\x1fcpu=1,mem=512M,node=1,billing=1\x1f5:00\x1f0:00\x1f5:00\x1f2026-11-23T23:50:06\x1f2026-11-23T23:50:06\x1f2026-11-23T23:50:06\x1f/home/alice\x1f9\x1f4294901756\x1f(null)\x1e\n',
    '26\x1fcxl\x1falice\x1fproj\x1fmain\x1fCANCELLED\x1fNone\x1f1\x1fvm\x1f1\x1fcpu=1,mem=512M,node=1,billing=1\x1f10:00\x1f0:51\x1f9:09\x1f2026-11-23T23:50:07\x1f2026-11-23T23:50:08\x1f2026-11-23T23:50:59\x1f/home/alice\x1f15\x1f4294901739\x1f(null)\x1e\n',
    '5\x1fnl\nname\x1falice\x1fproj\x1fmain\x1fCOMPLETED\x1fNone\x1f1\x1fvm\x1f1\x1fcpu=1,mem=512M,node=1,billing=1\x1f5:00\x1f0:00\x1f5:00\x1f2026-11-23T23:50:06\x1f2026-11-23T23:50:07\x1f2026-11-23T23:50:07\x1f/home/alice\x1f0\x1f4294901755\x1fcom\nment\x1e\n',
    '7\x1f\x1falice\x1fproj\x1fmain\x1fCOMPLETED\x1fNone\x1f1\x1fvm\x1f1\x1fcpu=1,mem=512M,node=1,billing=1\x1f5:00\x1f0:00\x1f5:00\x1f2026-11-23T23:50:06\x1f2026-11-23T23:50:07\x1f2026-11-23T23:50:07\x1f/home/alice\x1f0\x1f4294901753\x1f\x1e\n',
    '14_[3-5%2]\x1farr\x1falice\x1fproj\x1fmain\x1fPENDING\x1fJobArrayTaskLimit\x1f1\x1f\x1f1\x1fcpu=1,mem=512M,node=1,billing=1\x1f10:00\x1f0:00\x1f10:00\x1f2026-11-23T23:50:07\x1fN/A\x1fN/A\x1f/home/alice\x1f0\x1f4294901746\x1f(null)\x1e\n',
    '15_[1,3,5,7,9,11,13,15,17,19,22\x1farrodd\x1falice\x1fproj\x1fmain\x1fPENDING\x1fJobHeldUser\x1f1\x1f\x1f1\x1fcpu=1,mem=512M,node=1,billing=1\x1f10:00\x1f0:00\x1f10:00\x1f2026-11-23T23:50:07\x1fN/A\x1fN/A\x1f/home/alice\x1f0\x1f0\x1f(null)\x1e\n',
    '18_[0-40:2]\x1farrstep\x1falice\x1fproj\x1fmain\x1fPENDING\x1fJobHeldUser\x1f1\x1f\x1f1\x1fcpu=1,mem=512M,node=1,billing=1\x1f10:00\x1f0:00\x1f10:00\x1f2026-11-23T23:50:07\x1fN/A\x1fN/A\x1f/home/alice\x1f0\x1f0\x1f(null)\x1e\n',
    '28+1\x1fhet\x1falice\x1fproj\x1fmain\x1fPENDING\x1fResources\x1f1\x1f\x1f2\x1fcpu=2,mem=1G,node=1,billing=2\x1f10:00\x1f0:00\x1f10:00\x1f2026-11-23T23:50:07\x1f2026-11-24T00:00:00\x1f2026-11-24T00:10:00\x1f/home/alice\x1f0\x1f4294901736\x1f(null)\x1e\n',
    '22\x1fnodedown\x1falice\x1fproj\x1fmain\x1fPENDING\x1fReqNodeNotAvail, UnavailableNodes:n01\x1f1\x1f\x1f1\x1fcpu=1,mem=512M,node=1,billing=1\x1f10:00\x1f0:00\x1f10:00\x1f2026-11-23T23:50:07\x1fN/A\x1fN/A\x1f/home/alice\x1f0\x1f4294901743\x1f(null)\x1e\n',
    '24\x1fpartmulti\x1falice\x1fproj\x1fmain,gpu,long\x1fPENDING\x1fPartitionConfig\x1f1\x1f\x1f16\x1fcpu=16,mem=8G,node=1,billing=16\x1f10:00\x1f0:00\x1f10:00\x1f2026-11-23T23:50:07\x1f2027-12-28T23:50:07\x1f2027-12-29T00:00:07\x1f/home/alice\x1f0\x1f4294901741\x1f(null)\x1e\n',
]
SQUEUE_25_11 = [
    '3\x1fexit130\x1falice\x1fproj\x1fmain\x1fFAILED\x1fNonZeroExitCode\x1f1\x1fvm\x1f1\x1fcpu=1,mem=512M,node=1,billing=1\x1f5:00\x1f0:00\x1f5:00\x1f2026-11-23T23:59:51\x1f2026-11-23T23:59:52\x1f2026-11-23T23:59:52\x1f/home/alice\x1f130:0\x1f1\x1f(null)\x1e\n',
    '4\x1fsig9\x1falice\x1fproj\x1fmain\x1fFAILED\x1fRaisedSignal:9(Killed)\x1f1\x1fvm\x1f1\x1fcpu=1,mem=512M,node=1,billing=1\x1f5:00\x1f0:00\x1f5:00\x1f2026-11-23T23:59:51\x1f2026-11-23T23:59:52\x1f2026-11-23T23:59:52\x1f/home/alice\x1f0:9\x1f1\x1f(null)\x1e\n',
    '24\x1fcxl\x1falice\x1fproj\x1fmain\x1fCANCELLED\x1fNone\x1f1\x1fvm\x1f1\x1fcpu=1,mem=512M,node=1,billing=1\x1f10:00\x1f0:05\x1f9:55\x1f2026-11-23T23:59:51\x1f2026-11-23T23:59:52\x1f2026-11-23T23:59:57\x1f/home/alice\x1f0:15\x1f1\x1f(null)\x1e\n',
    '13\x1flonglim\x1falice\x1fproj\x1flong\x1fPENDING\x1fjob requeued in held state\x1f1\x1f\x1f1\x1fcpu=1,mem=512M,node=1,billing=1\x1fINVALID\x1f0:00\x1fINVALID\x1f2026-11-24T00:01:02\x1f2026-11-24T00:03:03\x1f2027-12-29T00:03:03\x1f/home/alice\x1f0:0\x1f0\x1f(null)\x1e\n',
    '10\x1frun1\x1falice\x1fproj\x1fmain\x1fSUSPENDED\x1fNone\x1f1\x1fvm\x1f1\x1fcpu=1,mem=1500M,node=1,billing=1,gres/gpu=1,gres/gpu:a100=1\x1f30:00\x1f1:10\x1f28:50\x1f2026-11-23T23:59:51\x1f2026-11-23T23:59:52\x1f2026-11-24T00:29:52\x1f/home/alice\x1f0:0\x1f0\x1f(null)\x1e\n',
]
SACCT_22_05 = [
    '3\x1falice\x1f12001\x1fproj\x1fmain\x1fFAILED\x1f2:0\x1f1\x1fvm\x1fbilling=1,cpu=1,mem=512M,node=1\x1fbilling=1,cpu=1,mem=512M,node=1\x1f00:05:00\x1f00:00:00\x1f2026-11-23T23:50:06\x1f2026-11-23T23:50:06\x1f2026-11-23T23:50:06\x1f/home/alice\x1f\x1fexit130\x1f\n',
    '10\x1falice\x1f12001\x1fproj\x1fmain\x1fRUNNING\x1f0:0\x1f1\x1fvm\x1fbilling=1,cpu=1,gres/gpu:a100=1,gres/gpu=1,mem=1500M,node=1\x1fbilling=1,cpu=1,gres/gpu:a100=1,gres/gpu=1,mem=1500M,node=1\x1f00:30:00\x1f00:00:58\x1f2026-11-23T23:50:07\x1f2026-11-23T23:50:07\x1fUnknown\x1f/home/alice\x1f\x1frun1\x1f\n',
    '24\x1falice\x1f12001\x1fproj\x1fmain,gpu,long\x1fPENDING\x1f0:0\x1f1\x1fNone assigned\x1f\x1fbilling=16,cpu=16,mem=8G,node=1\x1f00:10:00\x1f00:00:00\x1f2026-11-23T23:50:07\x1fUnknown\x1fUnknown\x1f/home/alice\x1f\x1fpartmulti\x1f\n',
    '26\x1falice\x1f12001\x1fproj\x1fmain\x1fCANCELLED by 12001\x1f0:0\x1f1\x1fvm\x1fbilling=1,cpu=1,mem=512M,node=1\x1fbilling=1,cpu=1,mem=512M,node=1\x1f00:10:00\x1f00:00:51\x1f2026-11-23T23:50:07\x1f2026-11-23T23:50:08\x1f2026-11-23T23:50:59\x1f/home/alice\x1f\x1fcxl\x1f\n',
    '28+1\x1falice\x1f12001\x1fproj\x1fmain\x1fCANCELLED by 12001\x1f0:0\x1f1\x1fNone assigned\x1f\x1fbilling=2,cpu=2,mem=1G,node=1\x1f00:10:00\x1f00:00:00\x1f2026-11-23T23:50:07\x1fNone\x1f2026-11-23T23:50:59\x1f/home/alice\x1f\x1fhet\x1f\n',
    '31\x1falice\x1f12001\x1fproj\x1flong\x1fPENDING\x1f0:0\x1f1\x1fNone assigned\x1f\x1fbilling=1,cpu=1,mem=512M,node=1\x1fPartition_Limit\x1f00:00:00\x1f2026-11-23T23:51:55\x1fUnknown\x1fUnknown\x1f/home/alice\x1f\x1fnolim\x1f\n',
    '32\x1falice\x1f0\x1fproj\x1f\x1fPENDING\x1f0:0\x1f0\x1fvm\x1f\x1f\x1f\x1f00:00:01\x1f2026-11-23T23:51:55\x1f2026-11-23T23:51:56\x1fUnknown\x1f\x1f\x1fallocation\x1f\n',
    '11\x1falice\x1f12001\x1fproj\x1flong\x1fREQUEUED\x1f0:0\x1f1\x1fvm\x1fbilling=1,cpu=1,mem=1.50G,node=1\x1fbilling=1,cpu=1,mem=1.50G,node=1\x1fUNLIMITED\x1f00:01:50\x1f2026-11-23T23:50:07\x1f2026-11-23T23:50:07\x1f2026-11-23T23:51:57\x1f/home/alice\x1f\x1frun2\x1f\n',
    '5\x1falice\x1f12001\x1fproj\x1fmain\x1fCOMPLETED\x1f0:0\x1f1\x1fvm\x1fbilling=1,cpu=1,mem=512M,node=1\x1fbilling=1,cpu=1,mem=512M,node=1\x1f00:05:00\x1f00:00:00\x1f2026-11-23T23:50:06\x1f2026-11-23T23:50:07\x1f2026-11-23T23:50:07\x1f/home/alice\x1fcom\nment\x1fnl\nname\x1f\n',
]
SACCT_25_11 = [
    '3\x1falice\x1f12001\x1fproj\x1fmain\x1fFAILED\x1f130:0\x1f1\x1fvm\x1fbilling=1,cpu=1,mem=512M,node=1\x1fbilling=1,cpu=1,mem=512M,node=1\x1f00:05:00\x1f00:00:00\x1f2026-11-23T23:59:51\x1f2026-11-23T23:59:52\x1f2026-11-23T23:59:52\x1f/home/alice\x1f\x1fexit130\x1f\n',
    '22\x1falice\x1f12001\x1fproj\x1fmain,gpu,long\x1fPENDING\x1f0:0\x1f1\x1fNone assigned\x1f\x1fbilling=16,cpu=16,mem=8G,node=1\x1f00:10:00\x1f00:00:00\x1f2026-11-23T23:59:51\x1fUnknown\x1fUnknown\x1f/home/alice\x1f\x1fpartmulti\x1f\n',
    '27\x1falice\x1f12001\x1fproj\x1fmain\x1fCANCELLED by 12001\x1f0:0\x1f1\x1fNone assigned\x1f\x1fbilling=2,cpu=2,mem=1G,node=1\x1f00:10:00\x1f00:00:00\x1f2026-11-23T23:59:51\x1fNone\x1f2026-11-23T23:59:57\x1f/home/alice\x1f\x1fhet\x1f\n',
]
SINFO = [
    'main*\x1fvm\x1fmix\x1f7/9/0/16\x1f64000\x1f8156\x1fgpu:a100:2(S:0),gpu:v100:1(S:1),shard:a100:5(S:0),shard:v100:3(S:1)\x1fgpu:a100:1(IDX:0),gpu:v100:0(IDX:N/A),shard:a100:0(IDX:N/A),shard:v100:1(IDX:2),craynetwork:0\x1e\n',
    'main*\x1fvm\x1fdrng\x1f6/0/10/16\x1f64000\x1f6620\x1fgpu:a100:2(S:0),gpu:v100:1(S:1),shard:a100:5(S:0),shard:v100:3(S:1)\x1fgpu:a100:1(IDX:0),gpu:v100:0(IDX:N/A),shard:a100:0(IDX:N/A),shard:v100:1(IDX:2),craynetwork:0\x1e\n',
    'main*\x1fn01\x1fdown*\x1f0/0/8/8\x1f16000\x1f0\x1f(null)\x1fgpu:0,shard:0,craynetwork:0\x1e\n',
    'gpu\x1fg1\x1funk*\x1f0/8/0/8\x1f16000\x1f0\x1fgpu:2\x1fgpu:0,shard:0,craynetwork:0\x1e\n',
    'main*\x1fvm\x1fmix\x1f7/9/0/16\x1f64000\x1f8156\x1fgpu:a100:2(S:0),gpu:v100:1(S:1),shard:a100:5(S:0),shard:v100:3(S:1)\x1fgpu:a100:1(IDX:0),gpu:v100:0(IDX:N/A),shard:a100:0(0/2,0/3),shard:v100:2(2/3)\x1e\n',
    'main*\x1fn02\x1funk*\x1f0/8/0/8\x1f16000\x1f0\x1f(null)\x1f(null)\x1e\n',
    'gpu*\x1fg07\x1fmix-\x1f12/116/0/128\x1f1031000\x1f524288\x1fgpu:8(S:0-1)\x1fgpu:(null):3(IDX:0,4-5)\x1e\n',
]
PARTITIONS = [
    'PartitionName=main AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A DefaultTime=01:00:00 DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO MaxNodes=UNLIMITED MaxTime=08:00:00 MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED Nodes=n[01-03],vm PriorityJobFactor=1 PriorityTier=1 RootOnly=NO ReqResv=NO OverSubscribe=NO OverTimeLimit=NONE PreemptMode=OFF State=UP TotalCPUs=40 TotalNodes=4 SelectTypeParameters=NONE JobDefaults=(null) DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED TRES=cpu=40,mem=112000M,node=4,billing=40,gres/gpu=3,gres/gpu:a100=2,gres/shard=8\n',
    'PartitionName=gpu AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=NO QoS=N/A DefaultTime=NONE DisableRootJobs=NO ExclusiveUser=NO ExclusiveTopo=NO GraceTime=0 Hidden=NO MaxNodes=UNLIMITED MaxTime=2-00:00:00 MinNodes=0 LLN=NO MaxCPUsPerNode=4 MaxCPUsPerSocket=UNLIMITED Nodes=g1,vm PriorityJobFactor=1 PriorityTier=1 RootOnly=NO ReqResv=NO OverSubscribe=NO OverTimeLimit=NONE PreemptMode=OFF State=UP TotalCPUs=24 TotalNodes=2 SelectTypeParameters=NONE JobDefaults=(null) DefMemPerNode=UNLIMITED MaxMemPerNode=8000 TRES=cpu=24,mem=80000M,node=2,billing=24,gres/gpu=5,gres/gpu:a100=2,gres/shard=8\n',
]
