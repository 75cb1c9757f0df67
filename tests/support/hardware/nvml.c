/* A library that answers like NVIDIA's management library, from a text file that a test rewrites.
 *
 * NVML_STUB names the file. Its lines:
 *   gpu UUID MIB USED USE WATTS CELSIUS STATE NAME      STATE: ok, lost (it answers so), gone (it is not listed)
 *   mig PARENT UUID MIB USED NAME                       a part of a GPU
 *   proc UUID PID MIB                                   a process that uses it
 *   xid UUID CODE NUMBER                                a fault; each NUMBER is told once
 *   dead                                                the driver answers nothing
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, NO_DRIVER = 9, TIMEOUT = 10, LOST = 15 };
enum { MOST = 64, TEXT = 96 };

typedef struct { char uuid[TEXT], parent[TEXT], name[TEXT], state[16]; unsigned long long total, used; unsigned use, watts, heat; } Gpu;
typedef struct { char uuid[TEXT]; unsigned pid; unsigned long long mib; } Proc;
typedef struct { char uuid[TEXT]; unsigned long long code, number; } Xid;
typedef struct { Gpu gpus[MOST]; Proc procs[MOST]; Xid xids[MOST]; int count, used, faults, dead; } State;

typedef struct { unsigned long long total, available, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, available, used; } Memory2;
typedef struct { unsigned gpu, memory; } Use;
typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute; } Process;
typedef struct { void *device; unsigned long long type, data; unsigned instance, compute; } Event;

/* Handles are the addresses of the names of devices, which stay what they are while the file changes. */
static char handles[MOST][TEXT];
static unsigned long long told;

static void read_state(State *state) {
    char line[512];
    memset(state, 0, sizeof *state);
    FILE *file = fopen(getenv("NVML_STUB") ? getenv("NVML_STUB") : "", "r");
    if (!file) { state->dead = 1; return; }
    while (fgets(line, sizeof line, file)) {
        Gpu *gpu = &state->gpus[state->count];
        Proc *proc = &state->procs[state->used];
        Xid *xid = &state->xids[state->faults];
        if (state->count == MOST || state->used == MOST || state->faults == MOST) break;
        if (sscanf(line, "gpu %95s %llu %llu %u %u %u %15s %95[^\n]", gpu->uuid, &gpu->total, &gpu->used, &gpu->use, &gpu->watts, &gpu->heat, gpu->state, gpu->name) == 8) state->count++;
        else if (sscanf(line, "mig %95s %95s %llu %llu %95[^\n]", gpu->parent, gpu->uuid, &gpu->total, &gpu->used, gpu->name) == 5) { strcpy(gpu->state, "ok"); state->count++; }
        else if (sscanf(line, "proc %95s %u %llu", proc->uuid, &proc->pid, &proc->mib) == 3) state->used++;
        else if (sscanf(line, "xid %95s %llu %llu", xid->uuid, &xid->code, &xid->number) == 3) state->faults++;
        else if (!strncmp(line, "dead", 4)) state->dead = 1;
    }
    fclose(file);
}

static void *handle_of(const char *uuid) {
    for (int i = 0; i < MOST; i++) {
        if (!handles[i][0]) strcpy(handles[i], uuid);
        if (!strcmp(handles[i], uuid)) return handles[i];
    }
    return NULL;
}

static int find(State *state, const void *handle, Gpu **gpu) {
    read_state(state);
    if (state->dead) return NO_DRIVER;
    for (int i = 0; i < state->count; i++)
        if (!strcmp(state->gpus[i].uuid, handle)) {
            *gpu = &state->gpus[i];
            return strcmp((*gpu)->state, "ok") ? LOST : OK;
        }
    return LOST;
}

/* The number-th device that is no part (parent: empty), or part of that one. */
static int at(const char *parent, unsigned number, void **handle) {
    State state;
    read_state(&state);
    if (state.dead) return NO_DRIVER;
    for (int i = 0; i < state.count; i++)
        if (!strcmp(state.gpus[i].parent, parent) && strcmp(state.gpus[i].state, "gone") && number-- == 0) {
            *handle = handle_of(state.gpus[i].uuid);
            return OK;
        }
    return NOT_FOUND;
}

int nvmlInitWithFlags(unsigned flags) { State state; (void)flags; read_state(&state); return state.dead ? NO_DRIVER : OK; }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == LOST ? "GPU is lost" : code == NO_DRIVER ? "Driver Not Loaded" : "An error of the stub"; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    State state;
    read_state(&state);
    *count = 0;
    for (int i = 0; i < state.count; i++) *count += !state.gpus[i].parent[0] && strcmp(state.gpus[i].state, "gone");
    return state.dead ? NO_DRIVER : OK;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { return at("", index, handle); }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) { *handle = handle_of(uuid); return OK; }

int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) { snprintf(text, size, "%s", (char *)handle); return OK; }
int nvmlDeviceGetName(void *handle, char *text, unsigned size) {
    State state; Gpu *gpu = NULL;
    find(&state, handle, &gpu);
    snprintf(text, size, "%s", gpu ? gpu->name : "NVIDIA Unknown");
    return OK;
}
int nvmlDeviceGetMemoryInfo(void *handle, Memory *memory) {
    State state; Gpu *gpu; int code = find(&state, handle, &gpu);
    if (code == OK) *memory = (Memory){gpu->total << 20, (gpu->total - gpu->used) << 20, gpu->used << 20};
    return code;
}
int nvmlDeviceGetMemoryInfo_v2(void *handle, Memory2 *memory) {
    State state; Gpu *gpu; int code = find(&state, handle, &gpu);
    if (code == OK) *memory = (Memory2){memory->version, gpu->total << 20, 0, (gpu->total - gpu->used) << 20, gpu->used << 20};
    return code;
}
int nvmlDeviceGetUtilizationRates(void *handle, Use *use) {
    State state; Gpu *gpu; int code = find(&state, handle, &gpu);
    if (code == OK) *use = (Use){gpu->use, 0};
    return code;
}
int nvmlDeviceGetTemperature(void *handle, unsigned sensor, unsigned *celsius) {
    State state; Gpu *gpu; int code = find(&state, handle, &gpu);
    (void)sensor;
    if (code == OK) *celsius = gpu->heat;
    return code;
}
int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) {
    State state; Gpu *gpu; int code = find(&state, handle, &gpu);
    if (code == OK) *milliwatts = gpu->watts * 1000;
    return code;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, Process *found) {
    State state; Gpu *gpu; int code = find(&state, handle, &gpu);
    unsigned room = *count;
    *count = 0;
    for (int i = 0; code == OK && i < state.used; i++)
        if (!strcmp(state.procs[i].uuid, handle)) {
            if (*count < room && found) found[*count] = (Process){state.procs[i].pid, state.procs[i].mib << 20, 0, 0};
            ++*count;
        }
    return code == OK && *count > room ? TOO_SMALL : code;
}
int nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *pending) {
    void *part;
    *now = *pending = at(handle, 0, &part) == OK;
    return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) { (void)handle; *count = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **part) { return at(handle, index, part); }

int nvmlEventSetCreate(void **set) { *set = &told; return OK; }
int nvmlEventSetFree(void *set) { (void)set; return OK; }
int nvmlDeviceRegisterEvents(void *handle, unsigned long long types, void *set) { (void)handle; (void)types; (void)set; return OK; }
int nvmlEventSetWait_v2(void *set, Event *event, unsigned milliseconds) {
    State state;
    (void)set; (void)milliseconds;
    read_state(&state);
    for (int i = 0; i < state.faults; i++)
        if (state.xids[i].number > told) {
            told = state.xids[i].number;
            *event = (Event){handle_of(state.xids[i].uuid), 8, state.xids[i].code, 0, 0};
            return OK;
        }
    return TIMEOUT;
}
